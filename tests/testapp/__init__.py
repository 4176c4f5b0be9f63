"""A user's app, as small as it can be: one model for each way of using the fields."""
