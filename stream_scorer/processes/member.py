"""What a member that a supervisor started has of its own: its name in Kafka and Redis, and no
address.
"""

from __future__ import annotations

from stream_scorer.errors import ConfigError
from stream_scorer.settings.tree import Settings

CLIENT_ID = "{client_id}"


def member_settings(settings: Settings, number: int) -> Settings:
    """The settings of member `number`, from 1 on.

    Members need different names: Kafka fences off a transactional producer, or a static member of a
    group, as soon as another one comes with the same name. Only the supervisor listens at
    telemetry.port.
    """
    kafka = settings.kafka.model_copy(
        update={"client_id": f"{settings.kafka.client_name}-{number}"}
    )
    telemetry = settings.telemetry.model_copy(update={"port": 0})
    return settings.model_copy(update={"kafka": kafka, "telemetry": telemetry})


def check_names(settings: Settings, processes: int) -> None:
    """Raises ConfigError where several members would come to the group with the same name."""
    given = settings.kafka.group_instance_id
    if processes > 1 and given and CLIENT_ID not in given:
        raise ConfigError(
            "kafka.group_instance_id", given,
            f"is the same for all {processes} processes, of which the group would keep one; write "
            f"{CLIENT_ID} in it, which has each one's number",
        )  # fmt: skip
