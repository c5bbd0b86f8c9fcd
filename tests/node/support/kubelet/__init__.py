"""What the kubelet does between a pod's spec and the runtime, as far as a debugging client can tell."""
