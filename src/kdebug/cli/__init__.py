"""The command line: verbs for pipes. Knows no Kubernetes, no channel, no /proc."""
