"""Images in memory or from a folder, and two views of them made on the device."""
