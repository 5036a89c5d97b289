package streamscorer.djl;

/**
 * The input can't be used; a person must change it. The message is one line that names the
 * field, the value and the remedy, in the words of the Python package; the command exits with 2.
 */
public final class BadInput extends RuntimeException {
    private static final long serialVersionUID = 1L;

    private static final int MAX_SHOWN = 200;

    /** {@code field: 'value': remedy}. */
    public BadInput(String field, Object value, String remedy) {
        this(field + ": '" + shown(String.valueOf(value), MAX_SHOWN) + "': " + remedy);
    }

    /** At most so many characters, without those that would end a line or move a terminal's cursor. */
    static String shown(String text, int most) {
        String start = text.length() > most ? text.substring(0, most) + "..." : text;
        StringBuilder kept = new StringBuilder();
        start.chars().forEach(c -> kept.append(c < ' ' || c == 127 ? "\\x%02x".formatted(c) : Character.toString(c)));
        return kept.toString();
    }

    /** The first line of what the first of an error's causes says. */
    static String rootMessage(Throwable error) {
        while (error.getCause() != null) {
            error = error.getCause();
        }
        return String.valueOf(error.getMessage()).lines().findFirst().orElse("");
    }

    /** An error whose message is complete already. */
    BadInput(String message) {
        super(message);
    }
}
