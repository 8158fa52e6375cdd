"""Files from elsewhere: downloads, archives, weights."""
