"""What served when, by the records."""

import datetime
import itertools
from collections.abc import Iterable

from rowmill.records import Deployment


def rollback_target(deployments: Iterable[Deployment]) -> str:
    """Return the model id that a roll back would deploy, or an empty text; deployments oldest first."""
    served: list[str] = []
    for deployment in deployments:
        if deployment.outcome == "deleted":
            served = [model_id for model_id, _ in itertools.groupby(name for name in served if name != deployment.model_id)]
        if deployment.outcome != "serving":
            continue
        if deployment.action == "roll back" and len(served) > 1:
            served.pop()
        elif not served or served[-1] != deployment.model_id:
            served.append(deployment.model_id)
    return served[-2] if len(served) > 1 else ""


def at(deployments: Iterable[Deployment], moment: datetime.datetime) -> str:
    """Return the model id that served at the moment, or an empty text; deployments oldest first."""
    served = [d.model_id for d in deployments if d.outcome == "serving" and d.at <= moment]
    return served[-1] if served else ""
