"""Where the flows run: on this machine, in containers, in the cloud."""
