"""The verbs of a node, one noun a module; :data:`vexfs.node.verb.MODULES` lists them."""
