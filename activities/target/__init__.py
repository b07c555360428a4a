"""The target side: libvirt, its domains, and what a domain needs on the host."""
