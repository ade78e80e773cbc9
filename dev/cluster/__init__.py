"""A real Kubernetes control plane on this machine, without a container engine.

etcd, kube-apiserver and kube-controller-manager are built once from `dev/controlplane/go.mod`, cached per user,
and start in about three seconds. There are no nodes: objects, RBAC, admission, garbage collection and
namespace deletion are real, and Pods never run.

    with running_cluster() as cluster:
        cluster.apply(Path("manifests"))

Two environment variables put something else in its place:

* `KUBEBUILDER_ASSETS`: a folder with `etcd`, `kube-apiserver` and, optionally, `kube-controller-manager`;
* `MAILSETTINGS_KUBECONFIG`: the kubeconfig of an existing cluster; nothing is started or stopped then.
"""

from dev.cluster.background import is_running, start, stop
from dev.cluster.binaries import Binaries, find_binaries
from dev.cluster.controlplane import Cluster, ControlPlane, existing_kubeconfig, running_cluster
from dev.cluster.errors import ApiError, ClusterError
from dev.cluster.kube import Api, service_account_kubeconfig
from dev.cluster.manifests import apply, load

__all__ = [
    "Api",
    "ApiError",
    "Binaries",
    "Cluster",
    "ClusterError",
    "ControlPlane",
    "apply",
    "existing_kubeconfig",
    "find_binaries",
    "is_running",
    "load",
    "running_cluster",
    "service_account_kubeconfig",
    "start",
    "stop",
]
