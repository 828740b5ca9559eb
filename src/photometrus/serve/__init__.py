"""A tree of observations for browsers: one page of all, what runs followed live; read only."""
