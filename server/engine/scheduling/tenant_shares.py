"""What each tenant has had: the ledger that makes the queue fair within a priority.

Every token that is computed for the first time is counted to its request's tenant, and who has had
least goes next (`waiting_queue.py`). That is deficit round robin by tokens served, known for
language models as the virtual token counter (Sheng et al., "Fairness in Serving Large Language
Models", 2024). A tenant that comes back from idling starts level with those who stayed: idling
earns nothing. Tokens found in the prefix cache, and those computed again after a preemption, are
free.

It knows no queue and no step.
"""

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class TenantShare:
    """One tenant at one priority."""

    served: int = 0  # tokens
    num_unfinished: int = 0  # requests, waiting or running


class TenantShares:
    """The shares of all tenants that have unfinished requests, or had them while others did."""

    def __init__(self) -> None:
        self._shares: dict[int, dict[str, TenantShare]] = {}  # priority -> tenant -> share

    def join(self, priority: int, tenant: str) -> TenantShare:
        """One more request: the share to which its tokens are counted."""
        shares = self._shares.setdefault(priority, {})
        share = shares.setdefault(tenant, TenantShare())
        if share.num_unfinished == 0:
            present = [other.served for other in shares.values() if other.num_unfinished]
            share.served = max(share.served, min(present, default=0))
        share.num_unfinished += 1
        return share

    def leave(self, priority: int, tenant: str) -> None:
        """One request less. Debts last while there is somebody to whom they matter."""
        shares = self._shares[priority]
        shares[tenant].num_unfinished -= 1
        if not any(share.num_unfinished for share in shares.values()):
            del self._shares[priority]
