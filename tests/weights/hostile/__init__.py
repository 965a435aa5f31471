"""Files that lie: damaged, cut and inflated ones end in one line, in bounded time and memory."""
