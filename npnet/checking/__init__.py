"""Is the mathematics right? Gradient checks, a step explained, where a training diverged."""
