"""Linux facts beside the target. Standard library; psutil only where a detail needs it; never forks."""
