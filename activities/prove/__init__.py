"""The boot proof: the converted guest is booted once, cut off from every network, and asked."""
