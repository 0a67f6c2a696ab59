"""`stemwright endpoint`: this machine's separation behind the HTTP API that the cloud path speaks.

A submit is streamed to disk and answered at once; one worker thread separates, one job after the
other; jobs and stems are in SQLite and a folder, and outlive the process.
"""
