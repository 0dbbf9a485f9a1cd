"""How often one caller may call: a sliding window for each key or address, counted in Redis for all processes or in this one.

The counting is the library's (`limits`); here are the choice of the store and what happens while Redis is away (ADR 17).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError

from endcap.errors import ConfigError

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool

    from endcap.sections import Rate, Rates
    from endcap.serving.metrics import Metrics

log = logging.getLogger(__name__)
ANONYMOUS = "anonymous"
_REDIS_SECONDS = 0.25  # a slow Redis must not slow every answer
_PAUSE_SECONDS = 1.0  # before Redis is tried again


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a call may go on, and what its caller has left."""

    allowed: bool
    role: str
    rate: Rate
    remaining: int | None = None  # None: not asked of Redis, since a second way there costs as much as the first
    reset_seconds: int = 0  # until at least one more call is allowed

    def headers(self) -> dict[str, str]:
        """RateLimit fields of draft-ietf-httpapi-ratelimit-headers-10; Retry-After where the call was refused."""
        fields = {"RateLimit-Policy": f'"{self.role}";q={self.rate.calls};w={self.rate.seconds}'}
        if self.remaining is not None:
            fields["RateLimit"] = f'"{self.role}";r={self.remaining};t={self.reset_seconds}'
        return fields if self.allowed else {**fields, "Retry-After": str(max(1, self.reset_seconds))}


class Counter:
    """Counts calls. While Redis does not answer each process counts alone, and the metrics and /readyz say so."""

    def __init__(self, rates: Rates, redis_url: str, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._rates, self._metrics, self._clock = rates, metrics, clock
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._connections = _connections(redis_url) if redis_url else None
        self._shared = _shared(self._connections) if self._connections else None
        self._up, self._retry_at = True, 0.0
        metrics.rate_store_up.set(1)

    @property
    def away(self) -> bool:
        """Whether Redis should count and does not answer."""
        return not self._up

    async def count(self, role: str, caller: str) -> Verdict:
        """Count one call of `caller` (a key's id or an address)."""
        rate: Rate = getattr(self._rates, role)
        item = RateLimitItemPerSecond(rate.calls, rate.seconds, namespace=f"endcap/{role}")
        if self._shared is not None and (self._up or self._clock() >= self._retry_at):
            self._retry_at = self._clock() + _PAUSE_SECONDS  # one tries, the others go on without
            try:
                async with asyncio.timeout(2 * _REDIS_SECONDS):
                    verdict = await _count(self._shared, item, role, rate, caller, always_told=False)
            except (StorageError, TimeoutError) as error:
                self._is_up(False, error)
            else:
                self._is_up(True)
                return verdict
        if self._shared is not None:
            self._metrics.rate_fallbacks.inc()
        return await _count(self._own, item, role, rate, caller, always_told=True)

    async def close(self) -> None:
        """Close the connections to Redis."""
        if self._connections is not None:
            await self._connections.disconnect()

    def _is_up(self, up: bool, error: Exception | None = None) -> None:
        if self._up and not up:
            log.error("Redis away, each process counts alone", extra={"reason": f"{type(error).__name__}: {error}"})
        self._up = up
        self._metrics.rate_store_up.set(up)


async def _count(
    limiter: SlidingWindowCounterRateLimiter,
    item: RateLimitItemPerSecond,
    role: str,
    rate: Rate,
    caller: str,
    *,
    always_told: bool,
) -> Verdict:
    allowed = await limiter.hit(item, caller)
    if allowed and not always_told:
        return Verdict(allowed, role, rate)
    stats = await limiter.get_window_stats(item, caller)
    return Verdict(allowed, role, rate, int(stats.remaining), max(0, round(stats.reset_time - time.time() + 0.5)))


def _shared(connections: ConnectionPool) -> SlidingWindowCounterRateLimiter:
    options: dict[str, Any] = {"connection_pool": connections}
    storage = RedisStorage("async+redis://", wrap_exceptions=True, implementation="redispy", key_prefix="endcap", **options)
    return SlidingWindowCounterRateLimiter(storage)


def _connections(url: str) -> ConnectionPool:
    action = "Give redis://[:password]@host:port/db (rediss:// with TLS), or unset it: then each process counts alone."
    try:
        from redis.asyncio import ConnectionPool

        return ConnectionPool.from_url(url, socket_timeout=_REDIS_SECONDS, socket_connect_timeout=_REDIS_SECONDS)
    except ImportError as error:
        action = "Install it: `pip install 'endcap[production]'`."
        raise ConfigError("needs the package redis", field="ENDCAP_REDIS_URL", action=action) from error
    except ValueError as error:
        raise ConfigError("is no URL of a Redis", field="ENDCAP_REDIS_URL", value=url.split(":")[0], action=action) from error
