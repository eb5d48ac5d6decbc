"""A history played as if it were live: its stage, its story, and how it is shown."""
