"""The schemas by which tests check the manifests of ``ops/kubernetes``."""
