"""What the gate's evidence is gathered with: one file per kind of evidence."""
