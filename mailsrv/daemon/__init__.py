"""The programs that supervisord runs, one file each, thin; none imports another."""
