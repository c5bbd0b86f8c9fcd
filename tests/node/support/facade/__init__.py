"""The part of the Kubernetes API that a debugging client meets, over a real container runtime."""
