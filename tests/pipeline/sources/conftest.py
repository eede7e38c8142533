"""Shards read without a child process, for tests that look inside of their readers."""

from __future__ import annotations

import pytest

from restyle.pipeline.sources import catalog, reader
from restyle.pipeline.sources.formats.shard_service import ShardKey, ShardService


class DirectShards(ShardService):
    def read(self, shard: ShardKey, place: str, *_: object) -> bytes | None:
        return super().read(shard, place)

    def end(self) -> None:
        for shard in list(self._shards):
            self.close(shard)


@pytest.fixture
def direct_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "ShardProcess", DirectShards)
    monkeypatch.setattr(reader, "ShardProcess", DirectShards)
