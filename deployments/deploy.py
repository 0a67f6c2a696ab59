"""Deploys the flows as `prefect deploy` does, and then closes their forms.

    python -m deployments.deploy --all

Prefect's command drops what a flow's schema says of groups that it hasn't, and the server would
store a run with a misspelt one, whatever is in it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PREFECT_FILE = Path(__file__).with_name("prefect.yaml")
TAG = "stemwright"


def main(options: list[str]) -> int:
    """Deploy with the options of `prefect deploy`; return its exit code."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy"]
    ended = subprocess.run([*command, "--prefect-file", str(PREFECT_FILE), *options])
    if ended.returncode == 0:
        close_forms()
    return ended.returncode


def close_forms() -> None:
    """Have the server refuse groups that our deployments don't have."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import DeploymentUpdate
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags

    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    with get_client(sync_client=True) as client:
        for deployment in client.read_deployments(deployment_filter=ours):
            closed = {**(deployment.parameter_openapi_schema or {}), "additionalProperties": False}
            client.update_deployment(
                deployment.id, DeploymentUpdate(parameter_openapi_schema=closed)
            )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
