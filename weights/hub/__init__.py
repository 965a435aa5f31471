"""Models of the Hugging Face hub: which files, how they are fetched and checked, and what is here.

hub_name      `org/name:Q4_K_M` as a person types it
chosen_files  a repository's files -> those of one model
hub_client    the hub's own client: a listing, a file's bytes, and its errors in a line
hub_pull      fetch, check, store
hub_store     what was fetched, found without a network
"""
