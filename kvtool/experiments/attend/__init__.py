"""`kvtool attend`: where texts look on pictures, from stored caches."""
