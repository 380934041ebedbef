package jdk.nashorn.api.scripting;

import java.util.Map;

/**
 * Stands in for a class that Java no longer has. Maxwell asks of each value that it writes whether it is
 * one of these, and ends where the class cannot be loaded; without scripts there is never one.
 */
public abstract class ScriptObjectMirror implements Map<String, Object> {
    /** Whether the script's value was an array. */
    public abstract boolean isArray();
}
