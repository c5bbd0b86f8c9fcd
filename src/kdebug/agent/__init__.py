"""What runs beside the target: the frame loop, dispatch, and hold. Standard library only; never forks."""
