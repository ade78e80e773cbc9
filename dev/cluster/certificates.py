"""The keys and certificates of one control plane, made anew at each start."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import trustme


@dataclass(frozen=True)
class Certificates:
    """Files in PEM that the servers read.

    Attributes:
        ca: The authority that signed both certificates.
        server_cert: kube-apiserver's certificate, for the loopback address only.
        server_key: Its key.
        admin_cert: The administrator's certificate: group `system:masters`.
        admin_key: Its key.
        account_key: The key that signs ServiceAccount tokens.
    """

    ca: Path
    server_cert: Path
    server_key: Path
    admin_cert: Path
    admin_key: Path
    account_key: Path

    @classmethod
    def create(cls, folder: Path) -> Self:
        """Makes them in a folder, which has to exist and should be readable by its owner only."""
        authority = trustme.CA(organization_name="mailsettings")
        server = authority.issue_cert("127.0.0.1", "localhost")
        # Kubernetes takes the user from CN and the groups from O. The host name is there for Go, which refuses the
        # empty list of names that trustme would write.
        admin = authority.issue_cert("admin.invalid", common_name="admin", organization_name="system:masters")
        made = cls(
            ca=folder / "ca.crt",
            server_cert=folder / "server.crt",
            server_key=folder / "server.key",
            admin_cert=folder / "admin.crt",
            admin_key=folder / "admin.key",
            account_key=folder / "service-account.key",
        )
        authority.cert_pem.write_to_path(made.ca)
        server.cert_chain_pems[0].write_to_path(made.server_cert)
        server.private_key_pem.write_to_path(made.server_key)
        admin.cert_chain_pems[0].write_to_path(made.admin_cert)
        admin.private_key_pem.write_to_path(made.admin_key)
        authority.issue_cert("service-account.invalid").private_key_pem.write_to_path(made.account_key)
        return made
