"""Terms that are added to any method's loss, one small file each."""
