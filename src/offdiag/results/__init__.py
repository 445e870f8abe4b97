"""What a run leaves behind, as plain values that carry what is needed to plot them again."""
