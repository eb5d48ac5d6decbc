"""The app's routes, a file per thing one asks for; each has `routes(service)`, which gives a router."""
