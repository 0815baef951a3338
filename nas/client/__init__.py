"""The SDK: searches from Python, over REST. Loads nothing heavy.

>>> from nas.client import Client
>>> client = Client("http://127.0.0.1:8421")
>>> client.url
'http://127.0.0.1:8421'
>>> client.close()
"""

from nas.client._async_client import AsyncClient
from nas.client._async_job import AsyncCandidateHandle, AsyncCandidateList, AsyncJobHandle
from nas.client._client import Client
from nas.client._job import CandidateHandle, CandidateList, JobHandle
from nas.client._progress import counters, duration
from nas.client._work import AsyncWork, Work

__all__ = [
    "AsyncCandidateHandle",
    "AsyncCandidateList",
    "AsyncClient",
    "AsyncJobHandle",
    "AsyncWork",
    "CandidateHandle",
    "CandidateList",
    "Client",
    "JobHandle",
    "Work",
    "counters",
    "duration",
]
