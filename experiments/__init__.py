"""One file per landmark result; the file's name is the experiment's name."""
