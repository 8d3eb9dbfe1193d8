"""`make up` and `make down`."""
