"""What operators install beside VexFS; `vexctl setup` prints or installs it."""
