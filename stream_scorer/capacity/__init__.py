"""What `bench capacity` measured, for `plan`."""
