"""The ledger platform's streams: single events and states, one message each.

| endpoint | series |
|---|---|
| `/ws/validators` | `ledger_validator_active`, `ledger_validator_jailed`, `ledger_validator_voting_power`, `ledger_validator_uptime_ratio`, `ledger_validator_last_block`, each by `validator` |
| `/ws/consensus` | `ledger_round_number`, `ledger_round_epoch`, `ledger_round_term`, `ledger_round_committed`, `ledger_round_performance_ratio`, `ledger_round_active_validators`, `ledger_round_votes`; `ledger_leader_changes_total` |
| `/ws/network` | `ledger_connection_up`, `ledger_connection_latency_seconds` by `peer`; `ledger_connections` |
| `/ws/transactions/legacy`, `/ws/transactions` | by `feed`: `ledger_transaction_events_total` by `status`, `ledger_transaction_value_total`, `ledger_transaction_gas_total` |
| `/ws/transactions` | also `ledger_sessions` by `state`, `ledger_session_users`, `ledger_session_channels`, `ledger_session_queued_messages`, `ledger_session_age_seconds` |
| `/ws/v11` | `ledger_stream_messages_total` by `channel`; `ledger_stream_value` by `channel` and `field` for each number of a message, because what stands in one is its producer's affair |

Counters are counted here, so that a stream of any speed makes one frame a second. Their labels have
few values: an unknown status or channel is `other`. Series by validator, peer or field are
limited in number by the shell, as all series of a target are.
"""  # noqa: E501 - a table's row is a line

from __future__ import annotations

from pipeline.ingest.ledger_shapes import MILLI, PERCENT, Field, Message, Tally

VALIDATOR = Message(
    (
        Field("status", "ledger_validator_active", "1 if it is active.", yes="active"),
        Field("status", "ledger_validator_jailed", "1 if it is jailed.", yes="jailed"),
        Field("votingPower", "ledger_validator_voting_power", "Voting power."),
        Field(
            "uptime",
            "ledger_validator_uptime_ratio",
            "Share of the time that it was up.",
            per=PERCENT,
        ),
        Field("lastBlockProposed", "ledger_validator_last_block", "The last block it proposed."),
    ),
    "validator",
    "validator",
)

CONSENSUS = Message(
    (
        Field("round", "ledger_round_number", "Round of the consensus."),
        Field("epoch", "ledger_round_epoch", "Epoch of the round."),
        Field("term", "ledger_round_term", "Term of the round's leader."),
        Field("state", "ledger_round_committed", "1 if it is committed.", yes="committed"),
        Field("status", "ledger_round_committed", "1 if it is committed.", yes="committed"),
        Field(
            "performanceScore",
            "ledger_round_performance_ratio",
            "Performance of the consensus, 1 is best.",
        ),
        Field(
            "activeValidators",
            "ledger_round_active_validators",
            "Validators that take part in the round.",
        ),
        Field("votes", "ledger_round_votes", "Votes of the round."),
    ),
    tallies=tuple(
        Tally(
            "ledger_leader_changes_total",
            "Rounds whose leader was not that of the round before.",
            changed=key,
        )
        for key in ("leader", "proposer")
    ),
)

NETWORK = Message(
    (
        Field("connected", "ledger_connection_up", "1 if connected.", yes="true"),
        Field("event", "ledger_connection_up", "1 if connected.", yes="connected"),
        Field("latency", "ledger_connection_latency_seconds", "Latency to the peer.", per=MILLI),
        Field("peerCount", "ledger_connections", "Peers that are connected.", common=True),
    ),
    "peer",
    "peerId",
)


def transactions(feed: str) -> Message:
    """Single transactions, as `feed` sends them."""
    labels = (("feed", feed),)
    return Message(
        tallies=(
            Tally(
                "ledger_transaction_events_total",
                "Transactions that were announced, by status.",
                labels=labels,
                label="status",
                word="status",
                words=("pending", "confirmed", "failed"),
            ),
            Tally(
                "ledger_transaction_value_total",
                "Value of all transactions that were announced.",
                "value",
                labels,
            ),
            Tally(
                "ledger_transaction_gas_total",
                "Gas used by all transactions that were announced.",
                "gasUsed",
                labels,
            ),
        )
    )


SESSIONS = Message(
    (
        Field(
            "totalSessions",
            "ledger_sessions",
            "Sessions of the transaction stream.",
            labels=(("state", "total"),),
        ),
        Field(
            "authenticatedSessions",
            "ledger_sessions",
            "Sessions of the transaction stream.",
            labels=(("state", "authenticated"),),
        ),
        Field("uniqueUsers", "ledger_session_users", "Users that have a session."),
        Field("activeChannels", "ledger_session_channels", "Channels that someone subscribed to."),
        Field("queuedMessages", "ledger_session_queued_messages", "Messages not delivered yet."),
    )
)
HEARTBEAT = Message(
    (Field("connectionDuration", "ledger_session_age_seconds", "Age of this connection."),)
)

CHANNELS_V11 = (
    "transactions",
    "blocks",
    "bridge",
    "analytics",
    "network",
    "validators",
    "metrics",
    "consensus",
)
STREAM = Message(
    (Field("", "ledger_stream_value", "A number of the last message.", each="field"),),
    "channel",
    "channel",
    (
        Tally(
            "ledger_stream_messages_total",
            "Messages by channel.",
            label="channel",
            word="channel",
            words=CHANNELS_V11,
        ),
    ),
)
