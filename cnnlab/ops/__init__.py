"""Pure functions and small modules that networks share."""
