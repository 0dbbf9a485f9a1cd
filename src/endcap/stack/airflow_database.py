"""`python -m endcap.stack.airflow_database`: bring Airflow's database to its schema and make the pools the DAGs use."""

from __future__ import annotations

POOLS = {"training": "One training at a time: two starve the machine."}


def prepare() -> None:
    """Idempotent; safe to run again after a kill."""
    from airflow.models.pool import Pool
    from airflow.utils.db import initdb
    from airflow.utils.session import create_session

    initdb()
    with create_session() as session:
        for name, description in POOLS.items():
            Pool.create_or_update_pool(name=name, slots=1, description=description, include_deferred=False, session=session)


if __name__ == "__main__":
    prepare()
