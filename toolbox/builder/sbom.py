"""What is inside, for people who must know: SPDX 2.3 JSON, and dpkg's own words for scanners."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

from builder.listing import BuildError
from builder.lockfile import Locked


def spdx(title: str, version: str, locked: Sequence[Locked], epoch: int, agent_hash: str) -> bytes:
    """One document for one image: its packages by name, version, SHA-256 and package URL."""
    packages = [_package(entry) for entry in locked]
    packages.append(
        {
            "SPDXID": "SPDXRef-agent",
            "name": "kdebug-agent",
            "versionInfo": version,
            "downloadLocation": "NOASSERTION",
            "licenseConcluded": "Apache-2.0",
            "comment": f"source hash {agent_hash}"
            if agent_hash
            else "not included; delivered by the client",
        }
    )
    created = datetime.fromtimestamp(epoch, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": title,
        # A URI that need not resolve (SPDX 2.3, 6.5); unique for this content.
        "documentNamespace": f"urn:kdebug:sbom:{title}:{version}:{epoch}",
        "creationInfo": {"created": created, "creators": ["Tool: kdebug-toolbox-build"]},
        "packages": packages,
        "relationships": [
            {
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relationshipType": "DESCRIBES",
                "relatedSpdxElement": package["SPDXID"],
            }
            for package in packages
        ],
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def _package(entry: Locked) -> dict[str, Any]:
    kind = "deb/debian" if entry.source == "deb" else "pypi"
    purl = f"pkg:{kind}/{quote(entry.name)}@{quote(entry.version, safe='')}"
    if entry.source == "deb":
        purl += f"?arch={entry.architecture}&distro=debian-12"
    return {
        "SPDXID": f"SPDXRef-{entry.source}-{''.join(c if c.isalnum() else '-' for c in entry.name)}",
        "name": entry.name,
        "versionInfo": entry.version,
        "downloadLocation": "NOASSERTION",
        "licenseConcluded": "NOASSERTION",
        "checksums": [{"algorithm": "SHA256", "checksumValue": entry.sha256}],
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": purl,
            }
        ],
    }


def dpkg_status(deb: Path) -> bytes:
    """The stanza that image scanners look for in /var/lib/dpkg/status.d/NAME."""
    fields = ["Package", "Version", "Architecture", "Maintainer", "Source", "Section", "Description"]
    done = subprocess.run(
        ["dpkg-deb", "--showformat", "".join(f"{f}: ${{{f}}}\\n" for f in fields), "--show", str(deb)],
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise BuildError(f"{deb.name} is not a Debian package: {done.stderr.decode().strip()}")
    return b"\n".join(line for line in done.stdout.splitlines() if not line.endswith(b": ")) + b"\n"
