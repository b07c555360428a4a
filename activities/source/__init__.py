"""Machines that come as files: OVA, OVF folder, or a single disk image, without any vCenter."""
