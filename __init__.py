"""Restores whole photographs of people you know. ComfyUI enters here."""


async def comfy_entrypoint():
    from .nodes import PersonalRestore

    return PersonalRestore()
