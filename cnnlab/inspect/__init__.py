"""What a network has learnt: pure functions of a module, its variables and a batch."""
