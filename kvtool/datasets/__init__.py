"""Data sets by name: `open_dataset("spair71k:/data/SPair-71k@test")`."""
