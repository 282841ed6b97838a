"""The embedded world, the shipped demo models, their training, and the study that runs it all."""
