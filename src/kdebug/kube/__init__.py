"""Pods: configuration, selection, the access ladder, exec. The only user of the `kubernetes` package."""
