"""A Kubernetes of one node with an Argo CD, a registry and a Git repository, on a bare Linux machine.

Each part is a process of its own in one network namespace and one cgroup, so that all of it can be ended for
certain.
"""
