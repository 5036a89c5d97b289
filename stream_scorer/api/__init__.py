"""What `import stream_scorer as ss` offers. Its names are public; the paths of these modules are
not, and may change in any version."""
