"""What any program needs: checked arguments, settings, files, locks, interrupts, progress."""
