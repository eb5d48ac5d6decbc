"""How a message reaches people and services: the parts of notify and deployer."""
