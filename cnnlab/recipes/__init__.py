"""An experiment file holds what is its paper's own; the papers' common ground is here."""
