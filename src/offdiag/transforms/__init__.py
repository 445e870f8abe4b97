"""What a target goes through before it is compared, one small file each."""
